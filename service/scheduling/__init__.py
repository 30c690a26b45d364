"""Which frame runs when: the queues, how long things take, who is too late, and whose newer frame counts."""
