"""The fault run: ``make chaos``, or ``python -m tests.chaos``.

Hundreds of imports and releases go through the embedded stack while its parts are killed and the
vendors answer badly. Then the trouble stops, everything has to come to an end within a bounded
time, and what is left is judged: in the database, at the vendors, at LiveKit, on the telephone, and
by a search for every secret there is.

`plan` says what will happen, as a function of a seed; `errands` and `trouble` make it happen;
`history` keeps who claimed which job when; `search` looks for secrets; `verdict` judges; `report`
tells. `run` holds them together.
"""
