"""Fine-tuning: `family.py` runs any family of tasks, a module each says what one is made of."""

# The families by name, with a line for people: what --help shows without loading Paddle. `family.py` says what each is.
ABOUT = {
    "classify": "Understanding: a class, a number or an answer for texts, pictures or both (GLUE, SNLI-VE, VQA).",
    "dual_encoder": "Image-text retrieval by captions and pictures encoded alone, taught by a closed-form teacher.",
    "retrieval": "Image-text retrieval: circle loss over random negatives; "
    "R@1/5/10 both ways, all captions with all pictures.",
}
# What is evaluated only.
LOOKED_AT = {
    "codes": "What a UNIMO-2's dictionary has learnt: codes that captions share with their own pictures and with "
    "others, nearest patches and words, heat-maps (docs/unimo2.md).",
    "zero_shot": "Pictures classified by the names of classes, without training on them (ImageNet; "
    "docs/understanding.md).",
}
