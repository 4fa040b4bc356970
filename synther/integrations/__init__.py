"""SynthER works inside other libraries: each has a module here and needs the extra of its name."""
