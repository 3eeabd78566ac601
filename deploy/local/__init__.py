"""The embedded stack: Postgres, Redis, sandbox, API, workers, beat and Flower in one command.

``stack.py`` is the entry; ``python -m deploy.local up|demo`` and the tests are its two users.
Nothing here is needed in production.
"""
