--@include keys
--@include records
--@include rollouts
--@include status
--@include tokens
-- Claims: taking entries off the heads of queues, and what of it a repeat answers.
local MOST_VOID = 1000
local void = 0

-- The rollout at the head of a queue, nil when there is none. Void entries before it are discarded, at most MOST_VOID
-- in all; returns besides whether that was too few to know.
local function pop_rollout(name)
  while void < MOST_VOID do
    local id = redis.call("LPOP", key("queue", name))
    local rollout = id and read_rollout(id)
    if not id then
      return nil, false
    elseif rollout and QUEUED[rollout.status] then
      return rollout, false
    elseif rollout then
      change(rollout, "queued", nil)
      write(rollout)
    end
    void = void + 1
  end
  return nil, true
end

-- Tokens are hints: not more than live entries, and at least one where entries are left, so that they wake somebody.
local function reconcile(name)
  local live = tonumber(redis.call("HGET", key("stats"), "queue:" .. name) or "0")
  local tokens = redis.call("LLEN", key("wake", name))
  if tokens > live then
    redis.call("LTRIM", key("wake", name), tokens - live, -1)
  elseif tokens == 0 then
    offer(name, live)
  end
end

-- Pairs of ids as text, and what of these claims still holds: others may have been given what ended since.
local function held_claims(answer)
  --@include attempts
  --@include replies
  local held = {}
  for id, attempt_id in string.gmatch(answer, "([^,:]+):([^,]+)") do
    local rollout = read_rollout(id)
    local attempt = rollout and rollout.latest == attempt_id and read_attempt(rollout, attempt_id)
    if attempt and LIVE[attempt.status] then
      held[#held + 1] = rollout_reply(id)
    end
  end
  return held
end
