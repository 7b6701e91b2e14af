UPDATE delivery SET status = 1, lease = :lease
WHERE id = :id AND status = 0
