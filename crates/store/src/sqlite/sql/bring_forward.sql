-- Each endpoint's pending deliveries that are due later; the index is read to its end before a row in it moves.
UPDATE delivery SET due_at = max(due_at - :by, :now)
WHERE status = 0 AND due_at > :now
