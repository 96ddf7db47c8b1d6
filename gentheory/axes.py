"""The axis letters: one glossary for every shape in signatures and docstrings."""

AXES = {
    "M": "models in a stack",
    "N": "examples",
    "B": "examples in a batch",
    "P": "parameters",
    "C": "classes or outputs",
    "K": "probes or vectors in a block",
    "L": "layers",
    "D": "features",
    "T": "steps or positions",
    "W": "windows of training",
    "S": "checkpoints along training",
    "G": "points of a grid",
}
