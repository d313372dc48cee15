--@include keys
--@include repeats
-- Whether the id of a request for a rollout is known already.

-- An id that exists is a repeat if the client made it, or if its task is the same. So is one that the client made and
-- that was deleted lately: what its creation answered then stands in item.deleted. Returns whether it exists or did, or
-- an error reply.
local function check_rollout(item)
  local stored = redis.call("HMGET", key("rollout", item.id), "status", "digest")
  if stored[1] and item.digest ~= "" and stored[2] ~= item.digest then
    return nil, redis.error_reply("INVALID_REQUEST rollout_id: " .. item.id ..
      " exists with another input or config; expected a new id or the same task")
  end
  if not stored[1] and item.digest == "" then
    item.deleted = answered(item.id)
  end
  return (stored[1] or item.deleted) and true or false
end
