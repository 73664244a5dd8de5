"""Mail: a queue in the database, what is written, and how it leaves.

A row says `sending` before its mail leaves, so that a kill can leave a mail uncertain but never sends one twice.
"""
