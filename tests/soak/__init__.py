"""The long run: many simulated devices, faults at random, and a judge who believes the truth logs alone."""
