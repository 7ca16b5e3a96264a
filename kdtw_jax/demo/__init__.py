"""A page for people: one text, written by several methods, with what each of them costs."""
