"""Scaling laws: parameters, equations, sources. No data and no fit here."""
