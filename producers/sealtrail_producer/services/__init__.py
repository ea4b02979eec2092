"""Example services: how an ordinary service records what it does. Made to be copied.

`orders` takes orders and hands them on; `billing` bills what `orders` handed it and
names the order's event as the cause of its own. They are joined by a pipe here; a
Kafka topic or HTTP carries the same header.

    sealtrail service orders --clock-offset 90 | sealtrail service billing
"""
