"""The bot, the job store and the real worker with the model that ships: from the prompt to pictures in the channel."""

from tests.bot.conftest import buttons, picture


def test_a_prompt_becomes_a_grid_a_variation_and_an_enlarged_picture(play, studio, run_all, small):
    async def scene(evening):
        ann = evening.person("ann")
        await ann.slash(evening.channel, "imagine", prompt="red fox face, noto --ar 2:1 --stop 50 --seed 7")
        await run_all(evening)
        (grid,) = evening.messages
        assert "seed 7, done in" in grid.content
        shown = await picture(grid)
        await ann.click(grid, label="U3")
        one = evening.messages[1]
        single = await picture(one)
        assert single.size == (96, 48) and shown.width >= 2 * 96 and shown.height >= 2 * 48
        await ann.click(grid, label="V2")
        await ann.click(one, label="Upscale 2x")
        await ann.click(one, label="Zoom out 1.5x")
        await run_all(evening)
        variation, larger, zoomed = evening.messages[2:]
        assert "U1" in buttons(variation)
        assert (await picture(larger)).size == (192, 96) and "192 × 96 pixels" in larger.content
        assert (await picture(zoomed)).size == (144, 80)
        assert {job.state for job in studio.service.store.find()} == {"done"}

    play(scene)
