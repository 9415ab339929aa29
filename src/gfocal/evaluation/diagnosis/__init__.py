"""Why a detector is as good as it is: intervals of its numbers, kinds of error, what scores and edges are worth."""
