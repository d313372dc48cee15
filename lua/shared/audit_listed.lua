--@include attempt_lists
--@include findings
--@include keys
-- Each record of an attempt is one of those that its rollout knows of.
local function number_of(attempt)
  return tonumber(redis.call("HGET", attempt, "number") or "")
end

-- The attempt of a rollout without a list, nil when it has none or its number tells that a list was lost.
local function only_attempt(rollout_id)
  local latest = redis.call("HGET", key("rollout", rollout_id), "latest")
  return latest and number_of(key("attempt", rollout_id .. ":" .. latest)) == 1 and latest or nil
end

local function check_listed(name, rollout_id, attempt_id)
  local list = key("attempts", rollout_id)
  local count = redis.call("LLEN", list)
  local only = count == 0 and only_attempt(rollout_id) or nil
  if only == attempt_id or redis.call("LPOS", list, attempt_id) then
    return
  end
  local is_next = number_of(name) == (only and 1 or count) + 1
  find("attempts", rollout_id .. ":" .. attempt_id, "is missing from the list of attempts of its rollout",
    is_next and function() list_attempt(rollout_id, only, attempt_id) end or nil)
end
