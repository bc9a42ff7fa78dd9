"""A machine that only talks: system units, hooks for buttons and lights, a spoken guide."""
