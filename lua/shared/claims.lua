--@include keys
--@include records
--@include rollouts
--@include status
-- Taking entries off the heads of queues.
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
