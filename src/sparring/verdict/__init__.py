"""The verdict: one word on a number, with its reasons: an ordered table of rules over what a run's rows and checks say."""
