"""The suite that tries to lose a credit, run by scripts/torture: each part is one kind of fault, in rounds."""
