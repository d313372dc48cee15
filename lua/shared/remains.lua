--@include keys
-- Whether there is a rollout of this id: its record, or so much of it that somebody may want to look at the rest.
local function has_record(id)
  return redis.call("EXISTS", key("rollout", id)) == 1
end

local function has_remains(id)
  return has_record(id) or (redis.call("ZSCORE", key("rollouts"), id) and redis.call("EXISTS", key("task", id)) == 1)
end
