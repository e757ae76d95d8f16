"""Values and pure functions. Imports the standard library only and never awaits."""
