import os

# Set before anything imports triton: set later, a kernel fails inside the interpreter.
if not os.path.exists("/dev/nvidia0"):  # noqa: PTH110
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
