"""A server: the requests of many clients share the slots of one pair."""
