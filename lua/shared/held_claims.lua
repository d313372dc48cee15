--@include attempts
--@include replies
--@include rollouts
--@include status
-- Pairs of ids as text, and what of these claims still holds: others may have been given what ended since.
local function held_claims(answer)
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
