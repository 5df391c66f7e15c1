"""Whether a ported model is the same function: recorded inputs and outputs, and the comparison with them."""
