"""A Confluent-compatible schema registry for Avro, as far as confluent-kafka uses it.

schemas        size and depth caps, then Apache Avro's parser
compatibility  Apache Avro's own checker, in the directions that a level asks for
storage        SQLite, on disk before the reply
registry       subjects, versions, ids, levels and modes: the rules
app            paths, bodies, status codes
errors         Confluent's error codes
"""
