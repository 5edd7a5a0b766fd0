"""The steps of a student: kernel by kernel, or captured as CUDA graphs."""
