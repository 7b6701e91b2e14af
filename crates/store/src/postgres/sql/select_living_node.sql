SELECT signs_until > clock_timestamp() AS signs
FROM node
WHERE id = $1 AND lease_until > clock_timestamp()
