UPDATE delivery SET status = 0, lease = NULL
WHERE id = :id AND status = 1 AND lease = :lease
