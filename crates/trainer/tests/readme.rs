//! The README's recipe is one.

use trainer::Recipe;

#[test]
fn the_example_recipe_is_valid() {
    let readme = include_str!("../README.md");
    let start = readme.find("```toml\n").unwrap() + "```toml\n".len();
    let end = start + readme[start..].find("```").unwrap();
    let recipe = Recipe::parse(&readme[start..end]).unwrap();
    assert_eq!(recipe.check().unwrap().name, "example");
}
