-- The index of leased deliveries finds them without a look at the pending ones.
UPDATE delivery SET status = 0, lease = NULL
WHERE status = 1
