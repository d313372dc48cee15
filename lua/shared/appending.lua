--@include spans
-- Append the spans that are new to the stream of their rollout.
--   items      from `first` on, per span: its id (64-bit integer as text, or ":" and text), number, reward or "",
--              payload
--   number_of  called with number and reward of each new span; returns its number
--   is_kept    false: they are numbered only, and go the way of those that were evicted before: nobody could read them
-- Returns per span its number, "" for a duplicate; and how many were new.
local function append_new(stream, sets, attempt_id, items, first, number_of, is_kept)
  local numeric, text, new = {}, {}, {}
  for i = first, #items, 4 do
    local ids = string.sub(items[i], 1, 1) == ":" and text or numeric
    ids[#ids + 1] = items[i]
    new[items[i]] = not is_kept or nil
  end
  if is_kept then
    claim_span_ids(sets .. attempt_id .. ":", numeric, new)
    if #text > 0 then claim_span_ids(sets .. attempt_id .. ":text:", text, new) end
  end
  local stored, count_new = {}, 0
  for i = first, #items, 4 do
    local id, number = items[i], ""
    if new[id] then
      new[id] = nil
      number = number_of(items[i + 1], items[i + 2])
      if is_kept then
        redis.call("XADD", stream, "*", "a", attempt_id, "s", number, "d", items[i + 3])
      end
      count_new = count_new + 1
    end
    stored[#stored + 1] = number
  end
  return stored, count_new
end
