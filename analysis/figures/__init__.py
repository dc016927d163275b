"""Every picture, as matplotlib figures. Nothing is judged here."""
