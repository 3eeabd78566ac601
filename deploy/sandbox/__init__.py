"""Loopback vendors: stateful, faults on demand, a journal of every request. Start at app.py."""
