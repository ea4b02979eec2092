"""The conservation law on a running system: nothing lost, nothing twice, all accounted for.

    law         the values, and the laws that need no store: commits, chains, broker. Pure
    questions   what is asked of the store, one range of offsets at a time
    broker      what is asked of a broker (a port)
    kafka       the broker behind Kafka's protocol; the only module that imports confluent_kafka
    progress    how far an earlier run came
    run         walks the logs range by range and holds everything against everything

Where `sealtrail audit store` proves each row from signed bytes, this counts: the engine does the
work, and what is asked again is only what is new.
"""
