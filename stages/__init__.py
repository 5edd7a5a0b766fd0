"""What is computed: one verb a file. A stage is a plain function ``stage(spec, inputs, out, on)``."""
