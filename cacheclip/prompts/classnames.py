"""How a class name is spoken in a prompt; the stored name stays as the data spell it."""


def spoken(name: str) -> str:
    """The name as a prompt has it: "_" becomes " ", as in CoOp and Tip-Adapter; nothing else."""
    return name.replace("_", " ")
