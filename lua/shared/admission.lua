--@include keys
-- Room in queues that have a limit; lightning_store/admission.py has the same rule.

-- An error reply when the rollouts that are to be created do not fit, else nil.
--   limits   "queue:most,queue:most"; "" = no limit
--   items    requests for rollouts, see requests.lua
--   new_ids  set of the ids that are to be created
local function check_room(limits, items, new_ids)
  local new, counted = {}, {}
  for _, item in ipairs(items) do
    if new_ids[item.id] and not counted[item.id] then
      local name = item.fields.queue or "default"
      counted[item.id], new[name] = true, (new[name] or 0) + 1
    end
  end
  for name, most in string.gmatch(limits, "([^:,]+):(%d+)") do
    if new[name] and new[name] > tonumber(most) then
      return redis.error_reply("INVALID_REQUEST max_queued: " .. new[name] .. " new rollouts never fit into queue " ..
        name .. ", which takes " .. most .. "; expected fewer in one call")
    end
  end
  for name, most in string.gmatch(limits, "([^:,]+):(%d+)") do
    local depth = new[name] and tonumber(redis.call("HGET", key("stats"), "queue:" .. name) or "0")
    if depth and depth + new[name] > tonumber(most) then
      return redis.error_reply("QUEUE_FULL queue " .. name .. " has " .. depth .. " rollouts of at most " .. most ..
        ", no room for " .. new[name])
    end
  end
  return nil
end
