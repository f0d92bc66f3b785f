"""The project's benchmark: the product, what people would pick instead, and the limits, in one run."""
