--@include keys
-- The entries of a rollout in the completion log.

-- The field of an entry of the log; nil when there is no such entry, or it is of another rollout.
local function logged(rollout, entry, field)
  local found = entry and redis.call("XRANGE", key("completed"), entry, entry)[1]
  local values = {}
  for i = 1, found and #found[2] or 0, 2 do
    values[found[2][i]] = found[2][i + 1]
  end
  return values.rollout == rollout.id and values[field] or nil
end

local function last_finish(rollout)
  return string.match(rollout.done or "", "[^,]+$")
end
