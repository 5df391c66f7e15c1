"""UNIMO, UNIMO-2 and OneR on PaddlePaddle. Importing this package imports nothing heavy."""

__version__ = "0.1.0"
