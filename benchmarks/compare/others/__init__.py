"""Other loaders that people pick, where they are installed. None of them is needed."""
