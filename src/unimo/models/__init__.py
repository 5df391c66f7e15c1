"""Networks and their sizes: UNIMO, UNIMO-2, OneR and the region detector in a file each; parts that they share."""
