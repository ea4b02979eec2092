"""The audit of the store: stored bytes are verified, and every row is derived again from them.

    columns    which columns of which tables are compared, and how they are read
    expected   the rows that a verified batch must have
    compare    expected rows against stored ones
    messages   what a message's rows agree on (arrival, branch), and its disposition
    commits    commits against the messages that they cover
    chains     batches against their chains
    run        reads the store chunk by chunk and does all of it

Only `run` asks the store; the rest is pure.
"""
