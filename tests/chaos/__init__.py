"""Workers under attack: faults go in, histories come out, and a checker reads them.

`python -m tests.chaos --help` runs it. The rooms, in the order in which a run visits them:
workload (what is enqueued), client (who enqueues it), fleet (who runs it), faults and nemesis
(who disturbs it), collect (what is left afterwards), history (all of it as values), checker.
"""
