-- Drops the policies and triggers that version 2 of the definition replaces.
-- runs as: set owner
drop policy if exists segmenter_member on @subscriptions@;
drop policy if exists segmenter_consumer on @subscriptions@;
drop policy if exists segmenter_member on @mart@;
drop policy if exists segmenter_member on @log@;
drop policy if exists segmenter_member on @deliveries@;
drop trigger if exists segmenter_check on @segments@;
drop trigger if exists segmenter_register on @segments@;
drop trigger if exists segmenter_check on @consumers@
