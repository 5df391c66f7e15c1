"""Region features that others made, in their formats -> records of our store."""

FORMATS = ("butd", "lxmert", "unimo-flickr", "unimo-snli-ve", "unimo-coco", "uniter", "vinvl", "npz")
