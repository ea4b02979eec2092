"""`sealtrail demo`: the whole pipeline with real history, in front of somebody's eyes.

The demo is a person at a terminal: it drives the other rooms by the command
`sealtrail` and the store by its HTTP interface, and reads every number that it
prints from the store.

    command (options, exit code) -> story (what happens, in order)
        -> stage (processes), ledger (questions to the store), wire (raw messages),
           forgery (what an attacker would send; pure), verdict (what must hold; pure),
           report (what is shown)
"""

from sealtrail_local.demo.cli import demo_command

__all__ = ["demo_command"]
