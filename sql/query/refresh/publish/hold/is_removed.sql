-- The condition that the delta removes a member.
-- part of: refresh/publish/hold/take_listed

        or w.id in (select d.id from segmenter_delta d where d.operation = 'r')
