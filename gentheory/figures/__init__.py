"""From a trained model to figures: one kind a file, whose tables come from the measures.

A kind is a function `f(subject, …) -> list[Drawing]`; `gentheory plot` and the reports call them.
"""
