--@include counters
--@include findings
--@include keys
--@include records
--@include status
--@include tokens
-- Queued rollouts can be claimed exactly once: they lie in their list, as their flag says, or wait for their delay.
-- That the list agrees with the flag is seen by whoever walks it, see audit_queue.lua.
local function put_back(rollout)
  local name = queue_name(rollout)
  if not redis.call("LPOS", key("queue", name), rollout.id) then
    redis.call("RPUSH", key("queue", name), rollout.id)
  end
  change(rollout, "queued", "1")
  write(rollout)
  offer(name, counter("queue:" .. name) or 0)
end

local function check_waiting(rollout)
  local id, waits = rollout.id, QUEUED[rollout.status]
  local ready = redis.call("ZSCORE", key("delayed"), id)
  local function undelay()
    redis.call("ZREM", key("delayed"), id)
  end
  if ready and not waits then
    find("queue", id, "waits for its retry, but is " .. rollout.status, undelay)
  elseif ready and rollout.queued then
    find("queue", id, "lies in its queue, and waits for its retry as well", undelay)
  elseif ready and tonumber(rollout.since or "") ~= tonumber(ready) then
    find("queue", id, "waits for its retry until another time than its record says", function()
      change(rollout, "since", rollout.since or ready)
      write(rollout)
      redis.call("ZADD", key("delayed"), rollout.since, id)
    end)
  elseif waits and not ready and not rollout.queued then
    find("queue", id, "is " .. rollout.status .. " and can never be claimed", function() put_back(rollout) end)
  end
end
