--@include keys
-- Which attempts a rollout has. A list of their ids exists from the second one on; until then the rollout's `latest`
-- tells. A list of one means the same: earlier versions wrote it with the first attempt, and it grows like any other.

-- The ids in order.
--   latest  the rollout's field, nil or false when it has no attempt
--   last    index of the last one wanted, from 0; nil = all
local function ids_of_attempts(rollout_id, latest, last)
  local ids = redis.call("LRANGE", key("attempts", rollout_id), 0, last or -1)
  if #ids == 0 and latest then
    ids[1] = latest
  end
  return ids
end

-- Put an attempt behind the others, of which the only one has no list yet; returns its number.
--   only  the only one before it, should there be no list; nil or false = there is none
local function list_attempt(rollout_id, only, id)
  local list = key("attempts", rollout_id)
  if only and redis.call("EXISTS", list) == 0 then
    return redis.call("RPUSH", list, only, id)
  end
  return redis.call("RPUSH", list, id)
end
