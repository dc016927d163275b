"""Classes of task curves over size: flat, smooth, emergent, and what not to believe."""
