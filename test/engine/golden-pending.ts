/** Cases of test/fixtures/merge that do not yet end as they should. */
export const PENDING: readonly string[] = [
];
